;; Takes memory, 1 MiB at a time, until it is refused, and then gives up.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (loop (br_if 0 (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0))))
  unreachable)
