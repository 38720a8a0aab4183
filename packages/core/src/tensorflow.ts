/**
 * TensorFlow.js's core alone differentiates nothing and computes nothing: this registers the gradients of its operations
 * and the backend on the processor, as `@tensorflow/tfjs` does, which also brings 200 MB of layers, converters and WebGL.
 * Registries are global to the process, so this may run beside a `@tensorflow/tfjs` of the user.
 *
 * `#gradients` is tfjs-core's own module wherever a bundler reads it. Node cannot (it is an ES module in a CommonJS
 * package, with imports of folders), so there it is a bundle of that module, made by this package's build; and from the
 * sources, before any build, the one that tfjs-layers holds.
 */
import '#gradients';
import '@tensorflow/tfjs-backend-cpu';
