;; init: the public-spec has 1000 tensors, as far as memory is zero.
(func (export "init") (type $init)
  (i32.store (i32.const 0x41c) (i32.const 0x2000))
  (i32.store (i32.const 0x420) (i32.const 1000))
  (i32.const 0x400))
(func (export "process") (type $process) (global.get $answer))
