/**
 * TensorFlow.js's core alone differentiates nothing and computes nothing: this registers the gradients of its
 * operations, the methods of tensors and the backend on the processor, as `@tensorflow/tfjs` does, which brings 200 MB
 * of layers, converters and WebGL with them. Registries are global to the process, so this may run beside a
 * `@tensorflow/tfjs` of the user.
 *
 * `#registrations` are modules of tfjs-core wherever a bundler reads them. Node cannot (they are ES modules in a
 * CommonJS package, and import folders), so there it is a bundle of them, made by this package's build; and from the
 * sources, before any build, `@tensorflow/tfjs` itself. tfjs-core comes first: the first copy in a process provides its
 * engine and its class of tensors, and the bundle's copy is not whole.
 */
import '@tensorflow/tfjs-core';
import '#registrations';
import '@tensorflow/tfjs-backend-cpu';
