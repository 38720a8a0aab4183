// What tfjs-core leaves to `@tensorflow/tfjs`: see tensorflow.ts. Gradients call methods of tensors, too, such as x.reshape().
import '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
