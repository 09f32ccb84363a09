;; init: a dimension of the public-spec is -2.
(func (export "init") (type $init)
  (i64.store (i32.const 0x4c0) (i64.const -2))
  (i32.const 0x400))
(func (export "process") (type $process) (global.get $answer))
