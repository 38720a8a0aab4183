import { fromPretrained as load, type PretrainedModel, type PretrainedOptions } from '@peftjs/models';
import { onnxFormats } from '@peftjs/onnx/formats';

/**
 * Loads a pretrained model with a head for a task. This is `fromPretrained` of @peftjs/models, which here also reads
 * `.onnx` files and folders that transformers.js can read, without safetensors. The reader of ONNX graphs is loaded
 * when one is opened.
 *
 * @param source - A folder with the model's files, the name of an installed npm package, an ID on the Hugging Face hub,
 * or a GGUF or ONNX file.
 * @throws ConfigError, HubError, UnsupportedError and CheckpointError like `fromPretrained` of @peftjs/models.
 * @example
 * const model = await fromPretrained('Xenova/all-MiniLM-L6-v2', { labels: ['bad', 'good'] });
 */
export function fromPretrained(source: string, options: PretrainedOptions = {}): Promise<PretrainedModel> {
  return load(source, withGraphs(options));
}

/** Adds the formats of ONNX graphs. The function that takes the options rejects those that are none. */
export function withGraphs<T extends Pick<PretrainedOptions, 'formats'>>(options: T): T {
  const { formats = [] } = Object(options) as T;
  const given: unknown = formats;
  return Array.isArray(given) ? { ...options, formats: [...formats, ...onnxFormats()] } : options;
}
