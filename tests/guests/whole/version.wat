;; Built for a later contract.
(component
  (instance $preprocess)
  (export "ingle:plugin/preprocess@0.3.0" (instance $preprocess)))
