"""Components of pipelines: ``ModelMixin`` classes."""
