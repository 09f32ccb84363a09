;; Logs a line with an escape sequence and a forged line 10,000 times, then answers.
(data (i32.const 0x800) "hello\1b[31m\nERROR faked")
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (local $i i32)
  (loop
    (call $log (i32.const 4) (i32.const 0x800) (i32.const 22))
    (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))
  (global.get $answer))
