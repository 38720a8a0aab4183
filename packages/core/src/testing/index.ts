export { farthestTensor, relativeDistance } from './closeness.js';
export { testMethod, type ConformanceOptions } from './conformance.js';
export { gradientsByDifferences, gradientsByTape, type DifferenceProbe } from './gradients.js';
export { referenceExecutor } from './reference-executor.js';
export { contextOf, forwardOf, initialOf, layerOf, layersOf, tensorsOf } from './single-layer.js';
export { toyEvaluationData, toyModel, toyTrainingData } from './toy-model.js';
