;; Fails with the code internal.
(data (i32.const 0x800) "secret")
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (i32.store8 (global.get $answer) (i32.const 1))
  (i32.store8 offset=4 (global.get $answer) (i32.const 7))
  (i32.store offset=8 (global.get $answer) (i32.const 0x800))
  (i32.store offset=12 (global.get $answer) (i32.const 6))
  (global.get $answer))
