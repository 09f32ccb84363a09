;; Fills 1 MiB over and over: the time passes inside of bulk instructions.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (local $at i32)
  (local.set $at (call $alloc (i32.const 0x100000)))
  (loop
    (memory.fill (local.get $at) (i32.const 1) (i32.const 0x100000))
    (br 0))
  unreachable)
