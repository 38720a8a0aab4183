export { decodeImage, MAX_PIXELS, type DecodedImage, type DecodeImage } from './decode.js';
export { imageProcessor, type ImageProcessor } from './processor.js';
export {
  encodeImages,
  imageInputs,
  imageRows,
  type Augmentation,
  type EncodedImages,
  type EncodeImagesOptions,
  type ImageKind,
} from './encode.js';
