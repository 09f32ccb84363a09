;; Says a shape whose product overflows, beside a zero.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (i32.store (i32.const 0x690) (i32.const 3))
  (i64.store (i32.const 0x6c0) (i64.const 0))
  (i64.store (i32.const 0x6c8) (i64.const -1))
  (i64.store (i32.const 0x6d0) (i64.const -1))
  (global.get $answer))
