;; Takes table entries until it is refused, and then gives up.
(table 0 funcref)
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (loop (br_if 0 (i32.ge_s (table.grow (ref.null func) (i32.const 1000)) (i32.const 0))))
  unreachable)
