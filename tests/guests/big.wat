;; Declares a memory of 2 GiB beside the first.
(memory $big 32768)
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process) (global.get $answer))
