;; Preprocess: gives the same example 5000 times.
(func (export "init") (type $init) (i32.const 0x400))
(func (export "process") (type $process)
  (local $list i32) (local $i i32)
  (local.set $list (call $alloc (i32.const 40000)))
  (loop
    (memory.copy (i32.add (local.get $list) (i32.shl (local.get $i) (i32.const 3)))
      (i32.const 0x640) (i32.const 8))
    (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000))))
  (i32.store (i32.const 0x604) (local.get $list))
  (i32.store (i32.const 0x608) (i32.const 5000))
  (global.get $answer))
