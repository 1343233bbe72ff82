// Everything that the page says, in English and Chinese, in one table. {0} is the first value that is put in.

const TABLE = {
  "save": ["Save", "保存"],
  "save.saved": ["Saved", "已保存"], "save.saved.long": ["Every edit is on the disk of the server.", "所有修改都已写入服务器磁盘。"],
  "save.saving": ["Saving…", "正在保存…"], "save.saving.long": ["An edit is on its way to the server.", "修改正在发送到服务器。"],
  "save.offline": ["Offline, {0} kept here", "离线，{0} 项保存在本机"], "save.offline.long": ["The server does not answer. Your edits are kept in this browser and are sent when it is back.", "服务器没有响应。修改保存在此浏览器中，恢复后会自动发送。"],
  "save.conflict": ["Conflict", "有冲突"], "save.conflict.long": ["Somebody else, or another tab, saved this image first. Both versions are kept.", "其他人或另一个标签页先保存了这张图像。两个版本都会保留。"],
  "save.out": ["Not entered, {0} kept here", "未登录，{0} 项保存在本机"], "save.out.long": ["Open the newest link from the terminal in this browser; your edits wait here.", "请在此浏览器中打开终端里最新的链接；修改会保留在这里。"],
  "save.refused": ["Not saved: {0}", "未保存：{0}"], "save.refused.long": ["The server refused the edit.", "服务器拒绝了修改。"],
  "save.unkept": ["Offline, {0} kept nowhere", "离线，{0} 项未保存"], "save.unkept.long": ["The server does not answer, and this browser has no place to keep your edits. Leave this page open until the server is back.", "服务器没有响应，此浏览器也无法保存修改。请在服务器恢复之前不要关闭此页面。"],
  "save.draft": ["Draft on this computer", "草稿保存在本机"], "save.draft.long": ["A ranking goes to the server when every principle has its ranks or is skipped.", "每个原则都排好或跳过之后，排序才会发送到服务器。"],
  "error.away": ["The server does not answer.", "服务器没有响应。"], "error.status": ["The server refused this (HTTP {0}).", "服务器拒绝了请求（HTTP {0}）。"],
  "out.long": ["You have not entered. Open the link that the terminal shows.", "尚未登录。请打开终端显示的链接。"],
  "person": ["Who you are here", "当前用户"], "theme": ["Dark or light", "深色或浅色"],
  "page.draw": ["Annotate", "标注"], "page.rank": ["Rank", "排序"], "page.review": ["Review", "审核"], "page.agreement": ["Agreement", "一致性"],
  "state.todo": ["to do", "未开始"], "state.doing": ["begun", "进行中"], "state.submitted": ["submitted", "已提交"], "state.accepted": ["accepted", "已通过"], "state.rejected": ["rejected", "已退回"],
  "scene.equipment": ["equipment", "设备"], "scene.environment": ["environment", "环境"], "scene.personnel": ["personnel", "人员"],
  "list.images": ["Images", "图像"], "list.search": ["Search names, labels, captions", "搜索名称、标签、描述"], "list.state": ["State", "状态"], "list.label": ["Label", "标签"], "list.scene": ["Scene", "场景"], "list.order": ["Order", "排序方式"],
  "list.anyState": ["any state", "全部状态"], "list.anyLabel": ["any label", "全部标签"], "list.anyScene": ["any scene", "全部场景"],
  "list.done": ["done", "已完成"], "list.found": ["{0} listed", "共 {0} 张"], "list.empty": ["No image here. Change the filters on the left.", "没有图像。请更改左侧的筛选条件。"], "list.end": ["No further image in this list.", "列表中没有更多图像。"],
  "order.id": ["as added", "添加顺序"], "order.name": ["by name", "按名称"], "order.queue": ["what teaches most first", "最有价值优先"], "order.score": ["lowest score first", "低分优先"], "order.margin": ["least sure first", "最不确定优先"], "order.updated": ["last changed first", "最近修改优先"],
  "reason.margin": ["model unsure", "模型不确定"], "reason.heads": ["reward heads apart", "奖励头不一致"], "reason.annotators": ["annotators apart", "标注员不一致"], "reason.failed": ["answered wrong", "回答错误"],
  "canvas.name": ["Image and shapes", "图像与形状"], "canvas.tools": ["Tools", "工具"],
  "light.brightness": ["Brightness", "亮度"], "light.contrast": ["Contrast", "对比度"], "light.invert": ["Invert", "反相"],
  "submit": ["Submit", "提交"], "submit.done": ["Submitted {0}", "已提交 {0}"], "submit.undone": ["Not submitted any more; go on.", "已撤回提交，可以继续修改。"], "submit.judged": ["{0} stays as it is, it was reviewed meanwhile: {1}", "{0} 保持不变，已有审核结果：{1}"], "submit.later": ["Not submitted: the edits are not saved yet.", "未提交：修改尚未保存。"],
  "copy.done": ["{0} shapes copied from the previous image", "已从上一张图像复制 {0} 个形状"], "copy.none": ["There is no previous image to copy from.", "没有可复制的上一张图像。"],
  "inspector.name": ["Inspector", "检查器"], "inspector.labels": ["Labels", "标签"], "inspector.image": ["Whole image", "整张图像"], "inspector.scene": ["Scene", "场景"], "inspector.regions": ["Shapes", "形状"], "inspector.predictions": ["Predictions", "模型预测"], "inspector.selected": ["{0} shapes selected", "已选 {0} 个形状"], "inspector.text": ["Text", "文字"],
  "shape.box": ["box", "矩形"], "shape.rotated_box": ["rotated", "旋转矩形"], "shape.polygon": ["polygon", "多边形"], "shape.point": ["point", "点"], "shape.mask": ["mask", "掩膜"],
  "polygon.part": ["Part", "加部分"], "polygon.hole": ["Hole", "加孔"], "polygon.vertices": ["vertices", "个顶点"],
  "caption.name": ["Caption", "描述"], "caption.add": ["Another caption", "再加一条描述"], "caption.placeholder": ["What is to be seen?", "图中有什么？"],
  "labels.edit": ["Label set", "标签集"], "labels.none": ["No labels yet: + makes some.", "还没有标签：点 + 添加。"], "labels.unlabelled": ["no label", "无标签"], "labels.intro": ["The first ten have the number keys. A label that is removed stays on the shapes that carry it.", "前十个标签对应数字键。删除标签不会改变已使用它的形状。"],
  "labels.add": ["Add a label", "添加标签"], "labels.name": ["Name", "名称"], "labels.color": ["Colour", "颜色"], "labels.up": ["Further up", "上移"], "labels.attribute": ["Attribute", "属性"], "labels.attributeName": ["Name of the attribute", "属性名称"], "labels.options": ["Options, with commas between", "选项，用逗号分隔"], "labels.remove": ["Remove", "删除"], "labels.conflict": ["Somebody else changed the labels. Theirs are shown with your changes, yours behind them; save again.", "其他人修改了标签。已显示他们的标签和您的修改，您新增的附在后面；请再次保存。"],
  "attribute.text": ["text", "文字"], "attribute.number": ["number", "数字"], "attribute.checkbox": ["yes or no", "是否"], "attribute.select": ["choice", "选项"],
  "prediction.accept": ["Accept", "接受"], "prediction.reject": ["Reject", "拒绝"], "prediction.all": ["Accept all of the newest model", "接受最新模型的全部预测"], "prediction.allShort": ["all", "全部"], "prediction.from": ["from", "来自"], "prediction.more": ["and {0} more", "另有 {0} 个"],
  "conflict.title": ["Two versions", "两个版本"], "conflict.intro": ["Since you began, another tab or person saved this image. Nothing is lost: what you do not choose stays in its history.", "在您编辑期间，另一个标签页或其他人保存了这张图像。不会丢失任何内容：未选择的版本保留在历史中。"],
  "conflict.yours": ["Yours, based on version {0}", "您的（基于版本 {0}）"], "conflict.theirs": ["Saved, version {0}", "已保存的（版本 {0}）"], "conflict.here": ["Yours", "您的"], "conflict.there": ["Saved", "已保存的"],
  "conflict.onlyYours": ["only in yours", "仅在您的版本"], "conflict.onlyTheirs": ["only in the saved one", "仅在已保存版本"], "conflict.changed": ["differs", "不同"],
  "conflict.takeYours": ["Take yours", "采用您的"], "conflict.takeTheirs": ["Take the saved one", "采用已保存的"], "conflict.both": ["Keep both", "两者都保留"],
  "history.title": ["History", "历史"], "history.version": ["Version", "版本"], "history.time": ["Time", "时间"], "history.shapes": ["Shapes", "形状"], "history.show": ["Show", "查看"], "history.restore": ["Restore", "恢复"], "history.now": ["now", "当前"], "history.from": ["as version {0}", "同版本 {0}"], "history.reviews": ["Reviews", "审核记录"], "history.late": ["Came too late to be saved", "因冲突未保存"], "history.lateCount": ["{0} kept from conflicts", "冲突保留 {0} 份"], "history.adopt": ["Add to this version", "加入当前版本"],
  "review.nothing": ["Nobody has saved anything for this image.", "还没有人标注这张图像。"], "review.comment": ["Comment for the annotator", "给标注员的意见"], "review.accept": ["Accept", "通过"], "review.reject": ["Reject", "退回"], "review.accepted": ["{0}: accepted", "{0}：已通过"], "review.rejected": ["{0}: rejected", "{0}：已退回"], "review.notSubmitted": ["This is not submitted yet.", "尚未提交。"], "review.changed": ["This was changed meanwhile; look again.", "内容已变化，请重新查看。"],
  "rank.none": ["No questions to rank. Start with answers=FILE to add some.", "没有要排序的问题。启动时用 answers=文件 添加。"], "rank.keys": ["1–{0} rank · 0 cannot judge · T tie with above · N not applicable · ←→ principle · ↑↓ answer", "1–{0} 排名 · 0 无法判断 · T 与上一个并列 · N 不适用 · ←→ 原则 · ↑↓ 答案"], "rank.diff": ["Differences from the chosen one", "与所选答案的差异"], "rank.next": ["Next", "下一题"], "rank.last": ["No further question.", "没有更多问题。"], "rank.open": ["to rank", "待排"], "rank.cannot": ["cannot judge", "无法判断"], "rank.skip": ["Not applicable", "不适用"], "rank.skipShort": ["N/A", "不适用"], "rank.skipped": ["not applicable", "不适用"], "rank.drag": ["Drag to a rank, or press its number", "拖到名次，或按数字键"], "rank.characters": ["{0} characters", "{0} 字"], "rank.image": ["Image of the question", "问题的图像"], "rank.noImage": ["The image of this question is not in the project.", "该问题的图像不在项目中。"], "rank.conflict": ["Another tab saved other ranks for this question.", "另一个标签页为此问题保存了不同的排序。"],
  "role.system": ["System", "系统"], "role.user": ["Question", "问题"], "role.assistant": ["Answer", "回答"],
  "principle.truthfulness": ["truthfulness", "真实"], "principle.helpfulness": ["helpfulness", "有用"], "principle.harmlessness": ["harmlessness", "无害"], "principle.fluency": ["fluency", "流畅"], "principle.clarity": ["clarity", "清晰"],
  "agreement.computing": ["Computing…", "正在计算…"], "agreement.work": ["Work", "进度"], "agreement.workNote": ["{0} images, {1} shapes, {2} predictions that nobody has decided about", "{0} 张图像，{1} 个形状，{2} 个预测未处理"], "agreement.freeze": ["Freeze what is accepted", "冻结已通过的标注"], "agreement.frozen": ["Snapshot {0}", "快照 {0}"], "agreement.csv": ["List as CSV", "导出 CSV 列表"], "agreement.snapshot": ["Snapshot", "快照"], "agreement.images": ["Images", "图像"],
  "agreement.classes": ["Shapes, by class", "形状一致性（按类别）"], "agreement.classesNote": ["{0} images that two or more people finished. Matched from an IoU of 0.5 on; the share of shapes that the other one drew too (F1), 95 % bootstrap over images.", "{0} 张由两人以上完成的图像。IoU ≥ 0.5 视为匹配；对方也画出的形状占比（F1），按图像自助法 95 % 区间。"], "agreement.nobody": ["No image has been finished by two people yet.", "还没有图像由两人完成。"], "agreement.share": ["Agreement", "一致率"], "agreement.iou": ["Mean IoU", "平均 IoU"], "agreement.mistaken": ["Same place, other label:", "位置相同但标签不同："],
  "agreement.principles": ["Rankings, by principle", "排序一致性（按原则）"], "agreement.principlesNote": ["Pairs of answers ordered alike, ties included; Kendall τ-b; ordinal Krippendorff α. 95 % bootstrap over questions.", "答案对顺序一致的比例（含并列）；Kendall τ-b；有序 Krippendorff α。按问题自助法 95 % 区间。"], "agreement.noRankings": ["No rankings yet.", "还没有排序。"], "agreement.principle": ["Principle", "原则"], "agreement.annotators": ["People", "人数"], "agreement.pairs": ["Pairs", "对数"], "agreement.raw": ["Pair agreement", "成对一致率"], "agreement.weight": ["Weight", "权重"], "agreement.flagged": ["too little", "过低"],
  "agreement.bias": ["Leaning, by annotator", "偏向（按标注员）"], "agreement.biasNote": ["Of the pairs that somebody ordered, the share won by the answer that stood further up, and by the longer one. 0.5 is no leaning.", "在排出先后的答案对中，位置靠前者和较长者胜出的比例。0.5 表示无偏向。"], "agreement.annotator": ["Annotator", "标注员"], "agreement.questions": ["Questions", "问题"], "agreement.position": ["Earlier one wins", "靠前者胜"], "agreement.length": ["Longer one wins", "较长者胜"],
  "help.title": ["Keys", "快捷键"], "help.intro": ["Click a key to change it; Esc leaves it. Changes stay in this browser.", "点击按键即可修改；Esc 取消。修改保存在此浏览器中。"], "help.change": ["Change this key", "修改此键"], "help.press": ["press a key", "请按键"], "help.reset": ["All as they were", "恢复默认"], "help.tools": ["Tools", "工具"], "help.regions": ["Shapes", "形状"], "help.predictions": ["Predictions and review", "预测与审核"], "help.images": ["Images", "图像"], "help.view": ["View", "视图"], "help.pages": ["Pages", "页面"], "help.fixed": ["Always", "固定"],
  "key.tool.select": ["Select and change", "选择与修改"], "key.tool.box": ["Box", "矩形"], "key.tool.rotated": ["Rotated box: three points", "旋转矩形：三点"], "key.tool.polygon": ["Polygon", "多边形"], "key.tool.point": ["Point", "点"],
  "key.draw.place": ["Place a point at the crosshair", "在十字处落点"], "key.draw.close": ["Close the polygon", "闭合多边形"], "key.draw.cancel": ["Cancel, then select tool, then nothing selected", "取消、回到选择、取消选择"], "key.draw.part": ["Draw another part of the polygon", "为多边形加一部分"], "key.draw.hole": ["Draw a hole in the polygon", "为多边形加孔"],
  "key.edit.undo": ["Undo", "撤销"], "key.edit.redo": ["Redo", "重做"], "key.edit.delete": ["Delete the shape or vertex", "删除形状或顶点"], "key.edit.duplicate": ["Duplicate", "复制一份"], "key.edit.copyPrevious": ["Copy shapes from the previous image", "从上一张图像复制形状"], "key.edit.selectAll": ["Select all", "全选"],
  "key.select.none": ["Select nothing", "取消选择"], "key.select.next": ["Next shape", "下一个形状"], "key.select.previous": ["Previous shape", "上一个形状"], "key.view.hide": ["Hide the selected, or all", "隐藏所选或全部"],
  "key.vertex.next": ["Next vertex", "下一个顶点"], "key.vertex.previous": ["Previous vertex", "上一个顶点"], "key.vertex.insert": ["Insert a vertex", "插入顶点"], "key.label.last": ["The label used last", "使用上次的标签"], "key.caption.focus": ["Write the caption", "填写描述"], "key.scene.next": ["Next scene", "下一个场景"],
  "key.prediction.accept": ["Accept (prediction, or in review)", "接受（预测或审核）"], "key.prediction.reject": ["Reject (prediction, or in review)", "拒绝（预测或审核）"], "key.prediction.all": ["Accept all predictions of the newest model", "接受最新模型的全部预测"], "key.prediction.next": ["Show the next one", "查看下一个"],
  "key.image.submit": ["Submit, next image", "提交并到下一张"], "key.image.skip": ["Skip", "跳过"], "key.image.previous": ["Previous", "上一个"], "key.image.next": ["Next", "下一个"], "key.search.focus": ["Search", "搜索"], "key.history.show": ["History", "历史"],
  "key.view.fit": ["Whole image", "适合窗口"], "key.view.full": ["100 %", "100 %"], "key.view.in": ["Closer", "放大"], "key.view.out": ["Further away", "缩小"], "key.view.invert": ["Invert", "反相"], "key.view.darker": ["Darker", "变暗"], "key.view.brighter": ["Brighter", "变亮"], "key.view.flatter": ["Less contrast", "降低对比度"], "key.view.steeper": ["More contrast", "提高对比度"], "key.view.reset": ["Light as it was", "恢复亮度"], "key.view.predictions": ["Show or hide predictions", "显示或隐藏预测"],
  "key.page.draw": ["Annotate", "标注"], "key.page.rank": ["Rank", "排序"], "key.page.agreement": ["Agreement", "一致性"], "key.page.review": ["Review", "审核"], "key.help.show": ["These keys", "快捷键"],
  "fixed.digits.keys": ["1 … 9, 0", "1 … 9, 0"], "fixed.digits": ["Label of the selection, or of the next shape", "所选或下一个形状的标签"],
  "fixed.arrows.keys": ["← ↑ ↓ →", "← ↑ ↓ →"], "fixed.arrows": ["Move the selection by 1 pixel; the crosshair while drawing; else the image list", "移动所选 1 像素；绘制时移动十字；否则切换图像"],
  "fixed.arrowsShift.keys": ["Shift + arrows", "Shift + 方向键"], "fixed.arrowsShift": ["by 10 pixels (the crosshair: far)", "移动 10 像素（十字：大步）"],
  "fixed.arrowsAlt.keys": ["Alt + arrows", "Alt + 方向键"], "fixed.arrowsAlt": ["Size by 1 pixel (the crosshair: by 1 pixel)", "大小改变 1 像素（十字：1 像素）"],
  "fixed.space.keys": ["Space, middle, Alt + drag", "空格、中键、Alt + 拖动"], "fixed.space": ["Pan, while drawing too", "平移，绘制时也可"],
  "fixed.wheel.keys": ["Wheel", "滚轮"], "fixed.wheel": ["Zoom to the cursor", "以光标为中心缩放"],
  "fixed.shiftClick.keys": ["Shift + click", "Shift + 单击"], "fixed.shiftClick": ["Add to the selection", "加入所选"],
  "fixed.doubleClick.keys": ["Double click", "双击"], "fixed.doubleClick": ["Close the polygon; choose a label", "闭合多边形；选择标签"],
  "fixed.crosshair.keys": ["B, arrows, Enter", "B、方向键、Enter"], "fixed.crosshair": ["Draw without a mouse", "不用鼠标绘制"],
};

let place = 0;

/** "en", "zh", or "auto" for the browser's. */
export function setLanguage(name) {
  const chosen = name === "auto" ? navigator.language : name;
  place = String(chosen).startsWith("zh") ? 1 : 0;
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
}

export const language = () => (place ? "zh" : "en");

/** The text of a key in the language of the page. */
export function t(key, ...values) {
  const entry = TABLE[key];
  if (!entry) throw new Error(`no text ${key}`);
  return entry[place].replace(/\{(\d)\}/g, (_, index) => String(values[Number(index)] ?? ""));
}

/** A principle's name; one that nobody translated stands for itself. */
export const principleName = (name) => (Object.hasOwn(TABLE, `principle.${name}`) ? t(`principle.${name}`) : name);
