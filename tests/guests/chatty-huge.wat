;; Logs 2 MiB in one piece, then answers whether it may go on logging.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (local $at i32)
  (local.set $at (call $alloc (i32.const 0x200000)))
  (memory.fill (local.get $at) (i32.const 0x61) (i32.const 0x200000))
  (call $log (i32.const 4) (local.get $at) (i32.const 0x200000))
  (f32.store (i32.const 0x700) (f32.convert_i32_u (call $enabled (i32.const 4))))
  (global.get $answer))
