export { head, type HeadConfig } from './head.js';
