export { farthestTensor, relativeDistance } from '@peftjs/core/linalg';
export type { ConformanceOptions } from './suite.js';
export { testMethod } from './test-method.js';
export { gradientsByTape, slopesByDifferences, type Slope } from './gradients.js';
export { referenceExecutor } from './reference-executor.js';
export { resumedAroundResize } from './resized.js';
export { contextOf, forwardOf, initialOf, layerOf, layersOf, tensorsOf } from './single-layer.js';
export { toyEvaluationData, toyModel, toyTrainingData } from './toy-model.js';
