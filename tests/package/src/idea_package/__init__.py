raise RuntimeError("listing strategies must not import the package that brings one")
