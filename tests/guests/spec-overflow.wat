;; init: the shape of the public-spec overflows.
(func (export "init") (type $init)
  (i32.store (i32.const 0x490) (i32.const 2))
  (i64.store (i32.const 0x4c0) (i64.const 0x7fffffffffffffff))
  (i64.store (i32.const 0x4c8) (i64.const 0x7fffffffffffffff))
  (i32.const 0x400))
(func (export "process") (type $process) (global.get $answer))
