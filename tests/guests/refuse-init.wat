;; init refuses the configuration.
(data (i32.const 0x800) "no such size")
(func (export "init") (type $init)
  (i32.store8 (i32.const 0x400) (i32.const 1))
  (i32.store8 (i32.const 0x404) (i32.const 0))
  (i32.store (i32.const 0x408) (i32.const 0x800))
  (i32.store (i32.const 0x40c) (i32.const 12))
  (i32.const 0x400))
(func (export "process") (type $process) (global.get $answer))
