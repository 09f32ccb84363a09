;; Answers with how often this instance was called, and with the first value of the call
;; before, read from where it was left in memory: [1, 0] unless requests share an instance.
(global $calls (mut i32) (i32.const 0))
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
  (f32.store (i32.const 0x700) (f32.convert_i32_u (global.get $calls)))
  (i32.store (i32.const 0x704) (i32.load (i32.const 0x3000)))
  (i32.store (i32.const 0x3000) (i32.load (i32.load offset=24 (local.get 11))))
  (global.get $answer))
