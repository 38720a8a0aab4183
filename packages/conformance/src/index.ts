export { farthestTensor, relativeDistance } from '@peftjs/core/linalg';
export type { ConformanceOptions } from './suite.js';
export { testMethod } from './test-method.js';
export { gradientsByTape, slopesByDifferences, type Slope } from './gradients.js';
export { referenceBackend, referenceExecutor } from './reference-executor.js';
export { resumedAroundResize } from './resized.js';
export {
  adapterValues,
  contextOf,
  controllerOf,
  forwardOf,
  hostMatrix,
  hostVector,
  initialOf,
  layerOf,
  layersOf,
  tensorsOf,
} from './single-layer.js';
export { toyOutputs, trainToy } from './toy-runs.js';
export { toyEvaluationData, toyModel, toyTrainingData } from './toy-model.js';
