;; Exports the interface without its functions.
(component
  (instance $preprocess)
  (export "ingle:plugin/preprocess@0.1.0" (instance $preprocess)))
