"""What is measured on kept weights after training: jobs over a results folder, and the rows they write.

A sweep's `probes` section and `python -m analysis geometry|features DIR` run the same jobs; each writes one part of the
table `probes`, whole or not at all, so that a run that broke off goes on where it was.
"""
