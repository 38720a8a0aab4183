/** What reads mutated files of a format, by its name. */
export const formats = { GGUF: () => import('./gguf.js'), ONNX: () => import('./onnx.js') };
