// A page needs these headers to compute with threads.
const headers = [
  { key: 'Cross-Origin-Opener-Policy', value: 'same-origin' },
  { key: 'Cross-Origin-Embedder-Policy', value: 'require-corp' },
];

export default {
  serverExternalPackages: ['peftjs', 'onnxruntime-node'], // native code must not be bundled
  headers: () => Promise.resolve([{ source: '/:path*', headers }]),
};
