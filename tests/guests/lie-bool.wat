;; Gives 2 for a boolean.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (i32.store8 (i32.const 0x688) (i32.const 0))
  (i32.store (i32.const 0x700) (i32.const 0x0201))
  (i32.store (i32.const 0x69c) (i32.const 2))
  (global.get $answer))
