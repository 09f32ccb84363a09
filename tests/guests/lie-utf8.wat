;; Gives a name that is not UTF-8.
(data (i32.const 0x800) "\c3\28")
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (i32.store (i32.const 0x680) (i32.const 0x800))
  (i32.store (i32.const 0x684) (i32.const 2))
  (global.get $answer))
