import { linearSite, type Site } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import { convolutionProduct, denseProduct, type ProductOf } from './product.js';
import { kernelLayer } from './tfjs-layers.js';

/** A layer that methods can act on. */
export interface Module {
  readonly site: Site;
  readonly layer: tf.layers.Layer;
  readonly productOf: ProductOf;
}

/** A layer and where it stands. */
export interface Placed {
  readonly path: string;
  readonly layer: tf.layers.Layer;
}

/** Every layer of a model; those of a model inside it as `<its name>.<name>`. */
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

/** The Dense and Conv2D layers among them, in the order of the model. `head`: the name of one, or of a model they are in. */
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

/** A Dense layer is a linear module; a Conv2D one that reads patches. */
function siteOf(path: string, layer: tf.layers.Layer): Site {
  const { kernel, bias } = kernelLayer(layer);
  const shape = kernel.shape as number[]; // [in, out] or [height, width, channels, out]
  const inFeatures = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const site = linearSite(path, inFeatures, shape.at(-1) as number);
  const [height, width, , out] = shape as [number, number, number?, number?];
  return { ...site, hasBias: bias !== null, ...(out !== undefined && { kernel: [height, width] as const }) };
}
