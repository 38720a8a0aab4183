import { diskStorage, type InputBatch, type Model } from '@peftjs/core';
import { ConfigError, DataError, describe } from '@peftjs/core/method';
import { nodeModule } from '@peftjs/core/model';
import { activeParts } from '@peftjs/core/runtime';
import { isNode, type Encoding, type PretrainedModel } from '@peftjs/models';
import { decodeImage, imageBatches, imageProcessor } from '@peftjs/tasks/images';
import type { ImageInput } from './image-classification.js';
import type { ImageParts, LoadedModel } from './inference.js';

/** An image at the size that the network reads. */
interface Fitted extends Encoding {
  readonly pixels: Uint8Array;
}

/**
 * Returns how a model reads images.
 * @throws ConfigError for a model without a preprocessor_config.json.
 */
export function imageParts(task: string, loadedModel: LoadedModel, batchSize: number): ImageParts {
  const model: Model & Partial<Pick<PretrainedModel, 'preprocessor'>> = activeParts(loadedModel).model;
  if (model.preprocessor === undefined) {
    throw new ConfigError(
      `${task}: '${model.name}' reads no images; expected a network of images with its preprocessor_config.json`,
      'source',
    );
  }
  const processor = imageProcessor(model.preprocessor);
  return {
    async encode(images) {
      const fitted: Fitted[] = [];
      for (const [index, image] of images.entries()) {
        const name = typeof image === 'string' ? image.slice(0, 200) : `${task}: image ${index + 1}`;
        const decoded = await decodeImage(await bytesOf(image as ImageInput, name), name);
        fitted.push({ ids: [index], truncated: false, pixels: processor.fitted(decoded) });
      }
      return fitted;
    },
    batches(rows): InputBatch[] {
      const images = (rows as readonly Fitted[]).map(({ pixels }) => pixels);
      return imageBatches(images, processor, { batchSize });
    },
  };
}

/** The path of a file on the disk, which may be given as a URL. */
function pathOf(image: string): string {
  if (!/^file:/i.test(image)) return image;
  const { fileURLToPath } = nodeModule('node:url') as typeof import('node:url');
  return fileURLToPath(image);
}

/** Reads the bytes of a file. @throws DataError when there is none, ConfigError for another value. */
async function bytesOf(image: ImageInput, name: string): Promise<Uint8Array> {
  if (image instanceof Uint8Array) return image;
  if (image instanceof Blob) return new Uint8Array(await image.arrayBuffer());
  if (image instanceof URL) return bytesOf(image.href, name);
  if (typeof image !== 'string' || image === '') {
    throw new ConfigError(`${name}: expected a path, a URL, or the bytes of a file, got ${describe(image)}`, 'images');
  }
  try {
    if (isNode() && !/^(https?|data|blob):/i.test(image)) return await diskStorage().read(pathOf(image));
    const response = await fetch(image);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    throw new DataError(`the server answers ${response.status}`, name);
  } catch (cause) {
    throw new DataError(
      `${name}: cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      name,
      cause,
    );
  }
}
