import type { ClassifyOptions, LabelScore } from './text-classification.js';

/** An image: the path or the URL of a PNG or JPEG file, or its bytes. */
export type ImageInput = string | URL | Uint8Array | Blob;

/** Classifies images. */
export interface ImageClassifier {
  /** Returns the labels of an image, best first: five, unless `topK` or `threshold` is given. */
  (image: ImageInput, options?: ClassifyOptions): Promise<LabelScore[]>;
  /** Returns the labels of each image. */
  (images: readonly ImageInput[], options?: ClassifyOptions): Promise<LabelScore[][]>;
  /** Frees the model's resources once running calls have ended. */
  dispose(): Promise<void>;
}
