;; init: the public-spec has no tensor.
(func (export "init") (type $init)
  (i32.store (i32.const 0x420) (i32.const 0))
  (i32.const 0x400))
(func (export "process") (type $process) (global.get $answer))
