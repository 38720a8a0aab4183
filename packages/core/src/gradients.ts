// Built as `dist/gradients.js`, with what it imports: see tensorflow.ts.
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
