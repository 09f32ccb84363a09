;; Traps in init.
(func (export "init") (type $init) unreachable)
(func (export "process") (type $process) (global.get $answer))
