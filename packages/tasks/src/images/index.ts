// Images as data: PNG and JPEG files, prepared as preprocessor_config.json says.
export { decodeImage, MAX_PIXELS, type DecodedImage, type DecodeImage } from './decode.js';
export { imageProcessor, type ImageProcessor } from './processor.js';
export {
  encodeImages,
  imageBatches,
  imageRows,
  type Augmentation,
  type EncodedImages,
  type EncodeImagesOptions,
  type ImageKind,
} from './encode.js';
export { imageTask, type ImageTaskFiles } from './task.js';
