"""The admission webhooks: the API server asks here before it stores an object of the mesh, or a pod.

Does: answers AdmissionReviews over HTTPS: checks objects with the checks of `crds`, gives pods their proxy.
In: HTTP requests; the mesh's changes and the injection settings; who issues certificates (`certificates.Issuer`).
Out: allowed, refused with the field's path, or a JSON patch; the roots to trust, told to `certificates.Publisher`.
Never: talks to an API server (that is `sources.kubernetes`'s), changes the mesh, dies of a bad request.
"""
