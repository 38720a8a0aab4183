import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** Returns a file of tools/golden/onnx_images.py. */
export function visionFile(name: string): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(new URL(`fixtures/onnx-images/${name}.gz`, import.meta.url))));
}

/** Returns one of its graphs. */
export function visionGraph(name: string): Uint8Array {
  return visionFile(`${name}.onnx`);
}

/** How a graph's network reads images, all of it written out, as transformers does. */
export const IMAGES_OF_8 = {
  image_processor_type: 'ViTImageProcessor',
  size: { height: 8, width: 8 },
  ...{ do_resize: true, do_rescale: true, do_normalize: true, rescale_factor: 1 / 255, resample: 2 },
  ...{ image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] },
};

/** A folder of a vision transformer as transformers.js lays it out: its files by path. */
export function visionFolder(folder: string, graph = 'vit-traced'): Map<string, Uint8Array> {
  const json = (content: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(content));
  return new Map([
    [`${folder}/onnx/model.onnx`, visionGraph(graph)],
    [`${folder}/config.json`, json({ model_type: 'vit', architectures: ['ViTForImageClassification'] })],
    [`${folder}/preprocessor_config.json`, json(IMAGES_OF_8)],
  ]);
}
