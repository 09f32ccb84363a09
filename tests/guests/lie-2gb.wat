;; Says that its 8 bytes are 2 GB.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (i32.store (i32.const 0x69c) (i32.const 0x7fffffff))
  (i64.store (i32.const 0x6c0) (i64.const 0x1fffffff))
  (global.get $answer))
