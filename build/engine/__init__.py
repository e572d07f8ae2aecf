"""One Docker Engine: images, names, labels, builds. No other room of `build` imports docker's client to make images."""
