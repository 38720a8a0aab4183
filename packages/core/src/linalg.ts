// The entry for matrices in plain memory: low-rank factors, decompositions and initial values.
export { transposed } from './tensors.js';
export {
  foldDiagonal,
  joinFactors,
  kaimingUniform,
  loraDelta,
  nearestFactors,
  nonZeroIndices,
  normalValues,
  pickColumns,
  pickRows,
  placeColumns,
  placeRows,
  rowNorms,
  scaleColumns,
  scaled,
  scaleRows,
  singularFactors,
  type SingularFactors,
  uniformValues,
  matrixProduct,
  joinColumns,
} from './ranks/factors.js';
export { qr } from './linalg/qr.js';
export { distancesOf, farthestTensor, relativeDistance, type TensorDistance } from './linalg/distance.js';
export { symmetricInverse } from './linalg/matrix.js';
export { truncatedSvd } from './linalg/truncated-svd.js';
