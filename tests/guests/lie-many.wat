;; Gives the same tensor a thousand times.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (local $list i32) (local $i i32)
  (local.set $list (call $alloc (i32.const 32000)))
  (loop
    (memory.copy (i32.add (local.get $list) (i32.shl (local.get $i) (i32.const 5)))
      (i32.const 0x680) (i32.const 32))
    (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))
  (i32.store (global.get $tensors) (local.get $list))
  (i32.store offset=4 (global.get $tensors) (i32.const 1000))
  (global.get $answer))
