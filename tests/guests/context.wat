;; Answers with the milliseconds that the request context says are left, and the version.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (f32.store (i32.const 0x700)
    (f32.convert_i64_u (i64.div_u (local.get 10) (i64.const 1000000))))
  (f32.store (i32.const 0x704) (f32.convert_i64_u (local.get 4)))
  (global.get $answer))
