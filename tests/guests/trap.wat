;; Says something, then reaches an unreachable.
(data (i32.const 0x800) "out of ideas")
(func $give-up unreachable)
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (call $log (i32.const 3) (i32.const 0x800) (i32.const 12)) (call $give-up) unreachable)
