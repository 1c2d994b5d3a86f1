"""Do learning rate and weight decay act through their product alone? Tests, each with a verdict of its own.

The functions here are pure: frames and arrays of measurements in, verdicts out. What is tested and why is the theory of
the intrinsic learning rate (Li, Lyu and Arora, NeurIPS 2020, arXiv 2010.02916); how it is tested is in each module.

Most tests take a frame with one row per *run*: `intrinsic_lr` (lambda_e), `ratio` (learning rate over weight decay),
`seed`, and a column per metric: `loss`, `error`, `log_elr:<layer>` (log of the effective learning rate),
`angle:<layer>` (angular update in radians). Runs of equal intrinsic LR form a *level*; those of equal intrinsic LR and
equal ratio form a *cell*.
"""
