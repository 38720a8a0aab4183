// The entry for losses to minimise in training.
export { contrastive, cosineSimilarity, multipleNegativesRanking, triplet } from './embeddings.js';
export { distillation, embeddingDistillation } from './distillation.js';
export { dpo, orpo } from './preferences.js';
export { binaryCrossEntropy, crossEntropy, nextToken, squaredError, tokenCrossEntropy } from './losses.js';
