;; Says a data type that the contract does not have.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (i32.store8 (i32.const 0x688) (i32.const 200))
  (global.get $answer))
