;; A component without a stage.
(component)
