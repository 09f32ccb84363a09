;; Postprocess: returns the tensors of its first result.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (i32.store (i32.const 0x624) (i32.load (local.get 11)))
  (i32.store (i32.const 0x628) (i32.load offset=4 (local.get 11)))
  (global.get $answer))
