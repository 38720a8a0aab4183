import type { Site } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import * as tf from '@tensorflow/tfjs';
import { convolutionProduct, denseProduct, type ProductOf } from './product.js';
import { kernelLayer } from './tfjs-layers.js';

/** A layer that adapters can act on. */
export interface Module {
  /** The layer for the adapter interface. */
  readonly site: Site;
  /** The layer. */
  readonly layer: tf.layers.Layer;
  /** The layer's linear map. */
  readonly productOf: ProductOf;
}

/** A layer and its path. */
export interface Placed {
  /** Its name, after the names of the inner models it is in. */
  readonly path: string;
  /** The layer. */
  readonly layer: tf.layers.Layer;
}

/** Returns all layers of a model. The path of a layer in an inner model is `<inner model>.<layer>`. */
export function layersOf(model: tf.LayersModel): Placed[] {
  const found = new Map<tf.layers.Layer, string>();
  const walk = (container: tf.LayersModel, prefix: string): void => {
    for (const layer of container.layers) {
      if (layer instanceof tf.LayersModel) walk(layer, `${prefix}${layer.name}.`);
      else found.set(layer, prefix + layer.name);
    }
  };
  walk(model, '');
  return [...found].map(([layer, path]) => ({ path, layer }));
}

/**
 * Returns the Dense and Conv2D layers, in the order of the model.
 * @param head The name of one of them, or of the inner model they are in, whose role is 'head'.
 */
export function modulesAmong(layers: readonly Placed[], head?: string): Module[] {
  return layers.flatMap(({ path, layer }) => {
    const productOf = productOfLayer(layer);
    const isHead = head !== undefined && (path === head || path.startsWith(`${head}.`));
    return productOf ? [{ site: { ...siteOf(path, layer), ...(isHead && { role: 'head' }) }, layer, productOf }] : [];
  });
}

function productOfLayer(layer: tf.layers.Layer): ProductOf | undefined {
  switch (layer.getClassName()) {
    case 'Dense':
      return denseProduct;
    case 'Conv2D':
      return convolutionProduct(layer);
    default:
      return undefined;
  }
}

/** Returns the site of a layer. Dense is a linear module; Conv2D is a linear module on patches. */
function siteOf(path: string, layer: tf.layers.Layer): Site {
  const { kernel, bias } = kernelLayer(layer);
  const shape = kernel.shape as number[]; // [in, out] or [height, width, channels, out]
  const inFeatures = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const site = linearSite(path, inFeatures, shape.at(-1) as number);
  const [height, width, , out] = shape as [number, number, number?, number?];
  return { ...site, hasBias: bias !== null, ...(out !== undefined && { kernel: [height, width] as const }) };
}
