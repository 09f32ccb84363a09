;; Says nothing about the version of the contract.
(component
  (instance $preprocess)
  (export "ingle:plugin/preprocess" (instance $preprocess)))
