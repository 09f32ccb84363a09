;; Calls itself without end.
(func $deeper (call $deeper) (call $deeper))
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (call $deeper) (global.get $answer))
