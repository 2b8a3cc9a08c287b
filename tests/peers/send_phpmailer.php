<?php
// send_phpmailer.php: send one message with PHPMailer. The order comes as JSON on standard input (peers/clients.py).

require '/usr/share/php/libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\PHPMailer;

$order = json_decode(stream_get_contents(STDIN), true);

$mailer = new PHPMailer(true);
$mailer->isSMTP();
$mailer->Host = $order['host'];
$mailer->Port = $order['port'];
$mailer->SMTPSecure = $order['implicit'] ? PHPMailer::ENCRYPTION_SMTPS : PHPMailer::ENCRYPTION_STARTTLS;
$mailer->SMTPOptions = ['ssl' => ['cafile' => $order['ca'], 'verify_peer' => true, 'verify_peer_name' => true]];
$mailer->SMTPAuth = true;
$mailer->Username = $order['login'];
$mailer->Password = $order['secret'];
$mailer->CharSet = PHPMailer::CHARSET_UTF8;
$mailer->setFrom($order['sender'], $order['name']);
array_map([$mailer, 'addAddress'], $order['to']);
array_map([$mailer, 'addCC'], $order['cc']);
array_map([$mailer, 'addBCC'], $order['bcc']);
$mailer->Subject = $order['subject'];
$mailer->Body = $order['text'];
$mailer->addAttachment($order['attachment_path'], $order['attachment_name']);
$mailer->send();
